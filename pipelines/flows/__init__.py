"""Evaluations with fan-out, retries and observation by Prefect, or the same without it.

`engine` runs any `llmm.evaluation.Evaluation` plainly; `fanout` does the same by Prefect tasks; `rag_eval` and
`agent_eval` are the flows; `serve` offers them to the UI's form; `settings` and `server` find or start a server.
"""
