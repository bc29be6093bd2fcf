"""Floor and ceiling of every table, by name; `anchors` draws them."""

ANCHORS = {
    "nothing-transferred": "floor: the concept with its own component, through the base's autoencoder",
    "owner": "the component's owner, through the base's autoencoder: nothing of the concept",
    "captions": "the original base, prompted with a description of both",
    "truth": "ceiling: the true image, through the base's autoencoder",
}
RENDERED = ("nothing-transferred", "owner", "truth")  # one image of each prompt: they have no noise
