"""Analysis: what a model is made of and costs, what it can see and does see, where its attention looks, what losses ask.

`summary` and `flops`, `receptive_field` and `spans`, `attention`, `loss_maps`: functions that return numbers and arrays.
"""
