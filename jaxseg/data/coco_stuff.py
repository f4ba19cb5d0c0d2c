"""`coco_stuff`: 80 classes of things and 91 of stuff on COCO's images (Caesar et al., 2018, CVPR, arXiv:1612.03716).

Names and ids are those of labels.txt of the set's own repository, nightrome/cocostuff. Its maps store id - 1, so 0 to
181, less the ids of eleven classes that COCO left out, and 255 for pixels of no class. The set has no colors.
"""

from jaxseg.checks import UserError
from jaxseg.data import listed
from jaxseg.data.dataset import Dataset, palette_colors
from jaxseg.data.pairs import Layout

_CLASSES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush, banner, blanket, branch, bridge, building-other, bush, cabinet,
cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain,
desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower,
fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal,
mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic, platform,
playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper,
snow, solid-other, stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable,
wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops,
window-blind, window-other, wood
"""
_LEFT_OUT = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # stored values of classes without a pixel


def coco_stuff(root: str) -> Dataset:
    """COCO-Stuff 164k, 171 classes on the images of COCO 2017; 255 is ignored.

    Splits: train and val.

    Args:
      root: the folder that holds images/{train2017,val2017}, or these two themselves, and the maps in
        stuffthingmaps/{train2017,val2017} or annotations/{train2017,val2017}.
    """
    path = listed.locate(root, "COCO-Stuff", ())
    images = next((f for f in ("images", ".") if (path / f / "val2017").is_dir()), None)
    maps = next((f for f in ("stuffthingmaps", "annotations") if (path / f / "val2017").is_dir()), None)
    if images is None or maps is None:
        lacks = "images/val2017 (or val2017)" if images is None else "stuffthingmaps/val2017 (or annotations/val2017)"
        raise UserError(
            f"'{root}' is not COCO-Stuff as it is downloaded: it has no {lacks}. Unpack train2017.zip and val2017.zip"
            " into images/, and stuffthingmaps_trainval2017.zip into stuffthingmaps/ (docs/data.md)."
        )
    classes = listed.names_of(_CLASSES)
    values = tuple((value,) for value in range(182) if value not in _LEFT_OUT)
    table = listed.Table("COCO-Stuff", classes, palette_colors(len(classes)), values, ignored=(255,))
    files = Layout(path, f"{images}/{{split}}", f"{maps}/{{split}}")
    splits = {name: (files, f"{name}2017") for name in ("train", "val")}
    return listed.dataset("coco_stuff", table, splits)
