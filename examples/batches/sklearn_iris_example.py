"""One job of the iris example: how the solver's tolerance changes the accuracy. Needs scikit-learn."""

from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from headway import hyperctl

job_params = hyperctl.get_job_params()  # read job params as a dict from hyperctl

tol = job_params["tol"]

X, y = datasets.load_iris(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=8086)

lr = LogisticRegression(tol=tol)
lr.fit(X_train, y_train)
y_pred = lr.predict(X_test)

print(f"tol: {tol}, accuracy_score: {accuracy_score(y_pred, y_test)}")
