"""Analysis: what a model is made of and costs, what it can see and does see, where its attention looks.

`summary`, `flops`, `receptive_field`, `spans`, `attention`, `loss_maps`: functions that return numbers and arrays.
"""
