"""Where do labelled boxes come from? Each reader gives every sample an array (n, 5) of class and corners.

rows     rows of numbers, as arrays hold them
placing  where a box is once its picture is resized, padded and cropped
coco     a COCO JSON
yolo     folders of pictures and of .txt files, as YOLO has them
names_beside  class names in a data.yaml beside these
"""
