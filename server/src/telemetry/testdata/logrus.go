package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
)

func main() {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, f := range []logrus.Formatter{&logrus.TextFormatter{FullTimestamp: true}, &logrus.JSONFormatter{}} {
		l := logrus.New()
		l.SetFormatter(f)
		l.SetLevel(logrus.TraceLevel)
		l.SetOutput(os.Stdout)
		base := l.WithTime(at).WithFields(logrus.Fields{"path": "/authenticate", "client": "127.0.0.1:1234", "method": "POST"})
		base.WithFields(logrus.Fields{"accesskeyid": "ASIAIOSFODNN7EXAMPLE", "arn": "arn:aws:sts::123456789012:assumed-role/Admin/alice@example.com", "accountid": "123456789012", "userid": "AROAIOSFODNN7EXAMPLE", "session": "alice@example.com", "stsendpoint": "sts.us-east-1.amazonaws.com"}).Info("STS response")
		base.WithFields(logrus.Fields{"accesskeyid": "AKIAIOSFODNN7EXAMPLE", "arn": "arn:aws:iam::123456789012:user/Alice", "accountid": "123456789012", "userid": "AIDACKCEVSQ6C2EXAMPLE", "session": "", "stsendpoint": "sts.amazonaws.com"}).Info("STS response")
		log := base.WithField("arn", "arn:aws:iam::123456789012:role/Admin")
		log.WithFields(logrus.Fields{"username": "alice", "uid": "aws-iam-authenticator:123456789012:AROAIOSFODNN7EXAMPLE", "groups": []string{"system:masters", "dev ops"}, "stsendpoint": "sts.us-east-1.amazonaws.com"}).Info("access granted")
		base.WithFields(logrus.Fields{"username": "kubernetes-admin", "uid": "aws-iam-authenticator:administrative:kubernetes-admin", "groups": []string{}, "stsendpoint": "sts.amazonaws.com"}).Info("access granted")
		log.WithFields(logrus.Fields{"username": "system:node:ip-10-0-0-1.ec2.internal", "uid": "u", "groups": []string{"a"}, "stsendpoint": ""}).Info("access granted")
		log.WithError(errors.New("identity is not mapped")).Warn("access denied")
		base.WithError(errors.New(`sts getCallerIdentity failed: "quoted" \ back=slash <b>&`)).Warn("access denied")
		for _, v := range []string{"", "plain", "two words", `say "hi"`, `back\slash`, "a=b", "alice@example.com", "a+b^c_d-e.f/g", "[a b]", "naïve", "日本語", "emoji 🦀", "tilde~", "a,b", "a:b", "{{x}}", "<b>&amp;", "'q'", "`t`", "%s", "e\u0301", "\u0301x"} {
			l.WithTime(at).WithField("v", v).Debug("m")
		}
		l.WithTime(at).WithFields(logrus.Fields{"msg": "f m", "time": "f-t", "level": 7, "logrus_error": "le", "B": true, "a": -1, "n": uint64(18446744073709551615)}).Error("clash")
		l.WithTime(at).WithField("x", "y").Trace("")
		l.WithTime(at).Infof("listening on %s", "127.0.0.1:21362")
		fmt.Println()
	}
}
