"""The app: a page on this machine in which a scene is labelled, classified and sharpened without code.

`session` and `sharpening` hold what was done and know no page; `page` gives them addresses, `server` runs it.
"""
