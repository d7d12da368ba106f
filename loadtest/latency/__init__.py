"""What stands between the engine and its users: router and gRPC, long prompts of others, beginnings computed again."""
