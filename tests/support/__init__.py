"""What do several tests share? Models, samples, results, and stand-ins.

misbehaving         what does a command look like that breaks a promise?
nets                small models, built from fixed seeds
tails               what models do after their class scores, drawn at random
tail_chains         chains of operators behind class scores, drawn at random
adversarial_models  legal model files that trip up tools that edit models
brightness          a classifier that minds how samples are prepared, and pictures for it
weak_class          a classifier with a weak class, samples it errs on, and commands run on them
at_positions        models that decide at every position, and lack a class
browser             a real browser that shows a page, and works with it
labels_at_positions  models that mark labels at every position, and know one of them badly
several_labels      models that mark several labels at once, and know some of them badly
unequal             samples of different sizes, cut from those of one size
finders             detectors that know one colour badly, and pictures of coloured squares
text_lines          a model that reads lines of text, and lines that it reads badly
plain_session       ONNX Runtime as anyone would open it, on one thread
own_answers         files run outside onnxtweak, compared with what commands report
cases               scripts that rebuild strangers' models, run within a test
detectors           binary models with a cut that is far off, for every tail
learning            samples to learn from, all of which may be judged on
rounded             copies of a model with weights of few bits
tweaks              random tweaks, models on disk, and models run by ONNX Runtime
damage              bits flipped in a tweaked file, records of older versions
candidates          neurons ranked from scores that are all at hand
results             small results of every command
report_pages        results as `report` reads them, and a parser for its page
foreign             arrays, tables and loaders as other libraries have them
docs_files          the files that the commands in the documentation read
served              commands of a shell script, carried out in the process of the test
fed_maps            models that show scores and hidden maps just as they are fed
few_folds           a fit on small tables with three folds, not ten or twenty
short_trainings     a fit whose hidden layers are trained for a moment
coarse_searches     a fit that tries half as many ridges and few biases, and intervals of few resamples
forked              programs in processes of their own, forked from one that has loaded the package
preloaded           what that one has loaded
device_arrays       arrays with CuPy's manners, for learners on a GPU that is not there
cupy_on_cpu         a stand-in for CuPy: kernels compiled as C++ and run in threads
"""
