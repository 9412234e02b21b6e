"""A show on its way through `render`: laid out on a time line, levelled, ducked, mixed, and put into files."""
