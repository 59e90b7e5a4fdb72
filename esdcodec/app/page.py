"""The page, and how it is served."""

from typing import TYPE_CHECKING

import gradio

from ..codec import ESDCodec
from .codec_tab import add_codec_tab
from .settings import DemoSettings
from .speech_tabs import add_speech_tabs

if TYPE_CHECKING:
    from ..tts import TextToSpeech

KEPT_SECONDS = 3600  # that recordings stay on the disk of the server
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # of the system: nothing of other hosts
STYLE = ".versions {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));}"


def make_page(codec: ESDCodec, settings: DemoSettings, tts: "TextToSpeech | None" = None) -> gradio.Blocks:
    """The page, not yet served.

    Args:
        tts: what speaks, as `load_tts` gives it: it has tabs of its own. None: the codec alone.
    """
    with gradio.Blocks(title="ESDCodec", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gradio.Markdown(
            f"# ESDCodec\nSpeech as {codec.frame_rate:g} frames of integers a second. Record or upload up to "
            f"{settings.max_seconds:g} s, and hear what each number of codebooks keeps. Model: {codec.name}."
        )
        if tts is None:
            add_codec_tab(codec, settings)
        else:
            with gradio.Tab("Codec"):
                add_codec_tab(codec, settings)
            add_speech_tabs(tts, settings)
    return page.queue(max_size=settings.queue)


def serve_page(page: gradio.Blocks, settings: DemoSettings) -> str:
    """Serve the page from a thread of its own; returns its URL.

    Raises:
        OSError: the port is taken.
    """
    _, url, _ = page.launch(
        server_name=settings.host,
        server_port=settings.port or None,
        theme=gradio.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css=STYLE,
        footer_links=[],
        max_file_size=int(settings.max_megabytes * 1e6),
        quiet=True,
        share=False,
        ssr_mode=False,
        prevent_thread_lock=True,
    )
    return str(url)
