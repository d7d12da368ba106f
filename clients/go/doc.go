// Package lepton streams text from a Lepton cluster.
//
//	client, err := lepton.Dial("localhost:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	for text, err := range client.Chat(ctx, lepton.Messages(lepton.User("What is 27 + 35?"))).Text() {
//		if err != nil {
//			return err
//		}
//		fmt.Print(text)
//	}
//
// A [Client] knows one or more routers of a cluster, tries again what is safe, comes back to streams that were cut
// ([WithResume]), and can stream from the workers themselves ([WithDirect]). Every failure is an [*Error] with a reason
// that programs can compare; docs/errors.md of Lepton lists the reasons.
//
// Package leptonv1 beside this one holds the generated stubs, which can be used alone.
package lepton
