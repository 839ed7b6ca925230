"""The air between both ends, and what the receiver knows of it."""
