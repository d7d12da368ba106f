"""Small charts as SVG: text that follows light and dark, no script, nothing fetched. Numbers in, one string out."""
