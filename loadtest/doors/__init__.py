"""What the doors of one router cost beside each other: gRPC, REST and WebSocket."""
