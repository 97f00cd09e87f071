"""The data engine: training pairs for an instruction editor, made the way InstructPix2Pix's were (its section 3.1).

``triplets`` puts instructions into words, ``pictures`` imagines the two pictures of each, ``filter`` keeps the good ones.
"""
