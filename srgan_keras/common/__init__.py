"""What both packages stand on: errors, files, pictures, settings and the command line.

All of it but `pixels` loads without Keras.
"""
