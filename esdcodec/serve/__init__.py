"""The codec over HTTP: files, live streams, health and metrics (`pip install "esdcodec[serve]"`).

`settings` has the limits, `refusal` the answers to what they exclude, `work` the queue before the codec, `body` how a
request is received, `files` what is done with a file, `speech` what is said, `live` the streams, `endpoints` the
application, `guard` what all requests pass, and `server` the sockets and the shut-down.
"""
