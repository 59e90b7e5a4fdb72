"""The page of `esdcodec demo` as a Hugging Face Space. Variables of the Space choose the model and the limits."""

import os

import esdcodec
from esdcodec.app.page import make_page, serve_page
from esdcodec.app.settings import DemoSettings

SETTINGS = DemoSettings(
    host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
    port=int(os.environ.get("GRADIO_SERVER_PORT", 7860)),
    max_seconds=float(os.environ.get("ESDCODEC_MAX_SECONDS", 30)),
)
codec = esdcodec.load(os.environ.get("ESDCODEC_MODEL", "25hz_nano"))
tts = None
if "ESDCODEC_TTS" in os.environ:
    from esdcodec.tts import load_tts

    tts = load_tts(os.environ["ESDCODEC_TTS"], codec=codec)
demo = make_page(codec, SETTINGS, tts)

if __name__ == "__main__":
    print(serve_page(demo, SETTINGS), flush=True)
    demo.block_thread()
