"""How people ask, by tool: three sets that share no phrasing, for training, choosing and reporting."""
