"""`/v1/ws`: many generations on one socket, in the proto's own JSON form."""
