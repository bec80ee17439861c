# ---
# title: Start here, the exercises
# chapter: "00"
# minutes: 15
# needs: a cluster
# ---

# %% [markdown]
# # 00. Start here: exercises
#
# Two short ones, to meet the loop of this course: **write, check, read, think again.**
#
# - Change only the cells that say `YOUR CODE HERE`. What you write there must make sense by itself.
# - The cell below each of them runs the checks, as often as you like. Nobody counts how often, and a wrong answer costs
#   nothing. Each check says what it expected, what it saw, and what to try.
# - `lab.hint("00.1")` asks you a question that may help. It depends on what has failed, and there are more than one.
# - This notebook is what you hand in, if somebody grades your work. Then some further checks run that you do not see
#   here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("00")

# %% [markdown]
# ## Exercise 00.1: A film's average
#
# Write `average(stars)`: the average of a film's ratings, a list of whole numbers from 1 to 5.
#
# - It is right to within 0.01 stars. Popular films have thousands of ratings.
# - Where nobody has rated the film (the list is empty), it is `None`.
# - The list is left as it is.
#
# The lists are made up when you check, and your neighbour's are others. So there is nothing to copy, and many ways to
# be right.

# %% answer="00.1"
def average(stars):
    ### BEGIN SOLUTION
    return sum(stars) / len(stars) if stars else None
    ### END SOLUTION
    raise NotImplementedError

# %% checks="00.1"

# %% alternative="00.1" title="the library's mean"
import statistics


def average(stars):
    if not stars:
        return None
    return statistics.fmean(stars)

# %% alternative="00.1" title="counted in a loop, and rounded"
def average(stars):
    total = count = 0
    for each in stars:
        total, count = total + each, count + 1
    return round(total / count, 2) if count else None

# %% wrong="00.1" title="in a hurry"
# fails fraction: cut it off
# fails nobody: raised ZeroDivisionError
# -     return sum(stars) / len(stars) if stars else None
# +     return sum(stars) // len(stars)

# %% wrong="00.1" title="nobody's average is 0"
# fails nobody: somebody has rated the film
# -     return sum(stars) / len(stars) if stars else None
# +     return sum(stars) / max(1, len(stars))

# %% wrong="00.1" title="the most usual rating"
# fails fraction: it must be 1.5
# fails nobody: raised
# -     return sum(stars) / len(stars) if stars else None
# +     return max(stars, key=stars.count)

# %% wrong="00.1" title="the number of ratings"
# fails whole: not the sum divided by the number
# -     return sum(stars) / len(stars) if stars else None
# +     return len(stars) or None

# %% wrong="00.1" title="stars are taken out"
# fails unchanged: taken out with pop
# -     return sum(stars) / len(stars) if stars else None
# +     total, count = 0, len(stars)
# +     while stars:
# +         total += stars.pop()
# +     return total / count if count else None

# %% wrong="00.1" title="calls itself for each rating"
# fails popular: RecursionError
# - def average(stars):
# + def total(stars):
# +     return stars[0] + total(stars[1:]) if stars else 0
# +
# +
# + def average(stars):
#
# -     return sum(stars) / len(stars) if stars else None
# +     return total(stars) / len(stars) if stars else None

# %% [markdown]
# ## Exercise 00.2: Foresee what a cluster does
#
# Somebody wishes for some copies of a program: a Deployment with `replicas: wish`. Then people do things to it, each
# when all is calm. Write `pods_after(wish, deeds)`: the number of pods when all is calm again. `deeds` is a list, and
# may be empty. A deed is
#
# - a number: the new wish (`lab.scale`), which may be 0;
# - `"delete a pod"`: one of the pods that are there is deleted;
# - `"delete the Deployment"`: the Deployment itself is deleted. Then no deed follows.
#
# The check does these deeds to a Deployment on your cluster, counts the pods, and puts your number beside theirs. If
# you are not sure, try it: the lesson has every command that you need.

# %% answer="00.2"
def pods_after(wish, deeds):
    ### BEGIN SOLUTION
    for deed in deeds:
        if deed == "delete the Deployment":
            wish = 0
        elif deed != "delete a pod":
            wish = deed
    return wish
    ### END SOLUTION
    raise NotImplementedError

# %% checks="00.2"

# %% alternative="00.2" title="the last wish of all"
def pods_after(wish, deeds):
    if "delete the Deployment" in deeds:
        return 0
    return [wish, *(deed for deed in deeds if isinstance(deed, int))][-1]

# %% alternative="00.2" title="from the end"
def pods_after(wish, deeds):
    meaning = {"delete the Deployment": 0}
    for deed in reversed(deeds):
        if deed != "delete a pod":
            return meaning.get(deed, deed)
    return wish

# %% wrong="00.2" title="a deleted pod is lost"
# fails comes-back: Another one took its place
# -     for deed in deeds:
# +     for deed in deeds:
# +         if deed == "delete a pod":
# +             wish -= 1

# %% wrong="00.2" title="wishes are added up"
# fails wish: neither added to it
# -             wish = deed
# +             wish += deed

# %% wrong="00.2" title="a wish is for ever"
# fails wish: takes the place of the old one
# -             wish = deed
# +             pass

# %% wrong="00.2" title="pods outlive the Deployment"
# fails owner: The wish goes with the Deployment
# -             wish = 0
# +             pass

# %% wrong="00.2" title="only the last deed"
# fails nothing: raised IndexError
def pods_after(wish, deeds):
    return {"delete a pod": wish, "delete the Deployment": 0}.get(deeds[-1], deeds[-1])

# %% wrong="00.2" title="none is no wish"
# fails zero: 0 was taken for no wish
# -             wish = deed
# +             wish = deed or wish
