"""Captioning as the literature describes it, in plain style: what speed is measured against.

These are baselines, not strawmen: the code is what one writes with the papers open, in torch, on
whole batches. Nothing here is used by pictell itself.
"""
