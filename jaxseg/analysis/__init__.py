"""Analysis of models: parts and cost, receptive fields, attention maps, and surfaces of losses.

`summary`, `flops`, `receptive_field`, `spans`, `attention`, `loss_maps`: functions that return numbers and arrays.
"""
