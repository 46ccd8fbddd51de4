"""The flow for the distortion of a camera, measured from dithered science frames."""

from flows.one_kind import flow_of

reduce_distortions = flow_of(
    "distortion",
    "Measure the distortion of the camera from the dithered science frames in ``paths``, and make the calibrations "
    "among them that they need.",
)
