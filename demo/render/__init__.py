"""What a viewer takes away of a commentary: subtitles, text, and the video with captions, chat and speech."""
