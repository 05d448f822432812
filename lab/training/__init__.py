"""Training: a flat loop over steps that stay on the device, for one head (``loop``) or for many at once (``stacked``).

``recipe`` says how, ``stages`` of what it is made, ``course`` how far it is and which weights are the best so far;
``task`` brings a head and a store together.
"""
