# Copyright 2026 The sqap_vla Authors
# SPDX-License-Identifier: Apache-2.0
"""Why a transform cannot be had. All derive from TransformException, so that one except clause catches
them.
"""


class TransformException(Exception):
    """Base of every tf2 error."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms joins them."""


class LookupException(TransformException):
    """A frame is not known, or the tree has a loop."""


class ExtrapolationException(TransformException):
    """A transform of the chain has no samples around the requested time."""


class InvalidArgumentException(TransformException):
    """A frame name is empty or starts with a slash."""


class TimeoutException(TransformException):
    """The time to wait for a transform is over."""
