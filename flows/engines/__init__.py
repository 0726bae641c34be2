"""Engines: each folds one function `apply(node, arguments)` over the nodes of a traced DAG."""
