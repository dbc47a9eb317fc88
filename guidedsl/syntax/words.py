"""Words that may not be names."""

from __future__ import annotations

MODEL_KEYWORDS = ("dim", "data", "latent", "observed", "let", "factor", "param", "plate", "net", "scan")
GUIDE_KEYWORDS = ("let", "param", "joint", "aux", "auto", "plate", "net", "scan")
FILE_KEYWORDS = ("dim", "extern", "model", "guide")
STEP_KEYWORDS = ("next", "emit")
"""Statements that stand in a scan alone."""
CLAUSE_KEYWORDS = ("for", "from", "via", "when", "in", "carry")

STATEMENT_KEYWORDS = tuple(dict.fromkeys((*FILE_KEYWORDS, *MODEL_KEYWORDS, *GUIDE_KEYWORDS, *STEP_KEYWORDS)))
KEYWORDS = (*STATEMENT_KEYWORDS, *CLAUSE_KEYWORDS)
RESERVED = frozenset(KEYWORDS)
