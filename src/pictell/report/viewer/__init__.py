"""The attention viewer: one script and one style sheet for the report and for the web page.

    entry = viewer_entry(captioner.caption("dog.jpg")[0], name="attention")
    page = f"<style>{viewer_style()}</style><script>{viewer_script()}</script>"

`viewer.js` tells at its head how it is mounted. Both files need no build step and no network, and
may be served or written into a page.
"""

from pictell.report.viewer.entries import viewer_entry, viewer_script, viewer_style

__all__ = ["viewer_entry", "viewer_script", "viewer_style"]
