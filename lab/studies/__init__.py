"""What ``python -m lab.study`` is made of.

    study file ──► rows or trials ──► chosen on validation ──► several seeds ──► test, once ──► result ──► tables
      files        setups, search         rows                  rows, saved       final         result     report

A study is of one kind. ``search`` looks for the best settings of one head, ``grid`` compares rows of heads, ``sweep``
changes the test videos step by step. ``lab.study.run`` reads from top to bottom what all three do; they end in the same
final step, the only one that is given the test split (``guard``). Whatever is trained on the way, trials, points of a
row and seeds, goes through ``splits.fit_all`` and ``trainings``, one by one or stacked.
"""
