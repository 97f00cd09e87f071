"""What people see of the studio: one module a room, and the widgets that they share. Everything here is Gradio's language."""
