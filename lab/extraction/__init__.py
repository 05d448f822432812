"""The pass: from a data set's media through frozen networks into a store, resumable and sharded.

``options`` is what it was asked for, ``plan`` what it needs before it begins, ``loop`` the pass itself over its
``units``, by their ``files``, ``encode`` and ``outcome`` what becomes of one; ``estimate`` is what it would take.
"""
