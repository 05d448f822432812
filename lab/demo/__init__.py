"""The page: ``python -m lab.demo``, after the demo page of X-Pool's authors, live on a store and its heads.

    heads (which) ──► answers (what there is to show, plain data) ──► server (loopback) or export (files)
                                                                          └── page/ (HTML, CSS and scripts) ──┘

Needs the extra ``demo``; nothing of it leaves the machine.
"""
