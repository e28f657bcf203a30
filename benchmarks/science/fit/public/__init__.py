"""How do trained classifiers of other people become ONNX files with labelled samples beside them?

net            what is one of the nets, and what is needed to make it?
repositories   where do the files of other people's repositories come from?
packages       where does a package with a trained net come from?
pickles        how is a pickle of others read without running what it says?
torch_file     what does a file of PyTorch hold?
keras_file     how does a Keras file become an ONNX graph?
graph          how is an ONNX graph written node by node?
images         which nets for small images are there?
tables         which nets for rows of a table?
sounds         which nets for sounds?
words          which nets for text?
"""
