"""What a relayed token costs: asked directly, through nginx, through one router process and through two."""
