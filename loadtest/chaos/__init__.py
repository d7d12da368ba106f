"""`make chaos`: every scenario, the controls, the table in docs/reliability.md."""
