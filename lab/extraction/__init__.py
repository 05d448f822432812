"""The pass: from a data set's media through frozen networks into a store, resumable and sharded.

``plan`` is what it needs before it begins, ``loop`` the pass itself, ``estimate`` what it would take.
"""
