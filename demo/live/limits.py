"""Limits of what clients of the server and of the page may send. Nothing here imports torch."""

LONGEST_S = 1e7  # time of a frame or of a player: 115 days
FRAME_BYTES, FRAME_PIXELS = 2 * 2**20, 4096 * 2304  # of one JPEG
QUESTION_CHARACTERS = 2000
POLICY_VIOLATION = 1008  # code with which a WebSocket is closed that did not say who it is
