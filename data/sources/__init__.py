"""Where timed frames come from: video files, folders of images, cameras, URLs and standard input."""
