"""What ``python -m lab.study`` is made of.

    study file ──► rows or trials ──► chosen on validation ──► several seeds ──► test, once ──► result, tables
      files          queue, search      splits                   final             guard          report

A study is of one kind. ``search`` looks for the best settings of one head, ``grid`` compares rows of heads, ``sweep``
changes the test videos step by step. All three end in the same final step, the only one that is given the test split.
"""
