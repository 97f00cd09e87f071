"""The studio: a web app around the editor. It holds no algorithm: everything here asks, shows, keeps and limits.

``serving`` starts the server; ``page`` is what people see, ``api`` what programs call, ``guard`` stands before both.
Below them, and without a word of Gradio: ``workshop`` has the models, ``running`` runs one piece of work and tells of it,
``sessions`` keeps what each visitor made, ``library`` and ``unfinished`` keep what was learned, ``limits`` says how much is
too much.
"""
