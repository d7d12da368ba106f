"""What the doors of a router cost: the same tokens over gRPC and over REST."""
