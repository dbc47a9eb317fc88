"""Words that may not be names."""

from __future__ import annotations

MODEL_KEYWORDS = ("dim", "data", "latent", "observed", "let", "factor", "param", "plate")
GUIDE_KEYWORDS = ("let", "param", "joint", "aux", "auto", "plate")
FILE_KEYWORDS = ("dim", "model", "guide")
CLAUSE_KEYWORDS = ("for", "from", "via", "when")

PLANNED = ("net", "extern", "scan", "carry", "next", "emit")
"""Reserved for statements that this version does not have."""

KEYWORDS = tuple(dict.fromkeys((*FILE_KEYWORDS, *MODEL_KEYWORDS, *GUIDE_KEYWORDS, *CLAUSE_KEYWORDS)))
RESERVED = frozenset((*KEYWORDS, *PLANNED))
