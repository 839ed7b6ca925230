"""The neural link in torch, hard and soft, and the form of it that is exported."""
