"""From an edit list to one filter graph of ffmpeg: every position as a whole sample, and as a whole frame of a video.

`steps` walks the list, `sound` and `picture` know how each step is said to ffmpeg, `graph` writes it down.
"""
