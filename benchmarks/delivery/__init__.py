"""How deliveries come through: lost or not, in order or not, and how long they take."""
