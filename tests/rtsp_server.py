"""An RTSP server for a test: plays an MP4 file with H.264 to each client from its start.

    /usr/bin/python3 tests/rtsp_server.py FILE.mp4 PORT      then rtsp://127.0.0.1:PORT/match

Runs under the Python that Debian's GStreamer bindings are made for, not in .venv. Prints "ready" when it listens.
Needs: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good
"""

import contextlib
import subprocess
import sys

PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def is_installed() -> bool:
    """Say whether this file can be run here."""
    with contextlib.suppress(OSError):
        return subprocess.run([PYTHON, "-c", NEEDS], capture_output=True).returncode == 0
    return False


if __name__ == "__main__":
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    path, port = sys.argv[1:]
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f'( filesrc location="{path}" ! qtdemux ! rtph264pay name=pay0 config-interval=-1 )')
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/match", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()
