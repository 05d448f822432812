"""The pass on several machines, by Ray: the plain pass's own plan, units and ledger, with other hands."""
