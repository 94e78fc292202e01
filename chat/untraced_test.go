package chat_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// A conversation that nobody traces takes a shorter way for tokens that lie whole in a read. It must behave alike: the
// tests of conversations, once more without a trace hook.
func TestUntraced(t *testing.T) {
	untraced = true
	defer func() { untraced = false }()
	for _, test := range []func(*testing.T){
		TestGreetingAndLines,
		TestPushesInPieces,
		TestSwitchingTerminators,
		TestMillionCountedItems,
		TestEmptyCount,
		TestCountIsOneShot,
		TestSetTerminatorElsewhere,
		TestPauseInTheMiddleOfABuffer,
		TestPausedThenEOF,
		TestReadablePredicate,
		TestTooLongClosesByDefault,
		TestTooLongIsLogged,
		TestSkipToken,
		TestTooLongSetsAnotherTerminator,
		TestAnswersBeforeAFailureGoOut,
		TestTooLongWithoutDecisionCloses,
		TestDefaultLimits,
		TestCloseWhenDone,
		TestCloseWhenDoneLingers,
		TestCloseWhenDoneDeadline,
		TestCloseWhenDoneOfALongDownload,
		TestDiscardBuffersTakesCloseBack,
		TestDiscardBuffersBetweenTokensOfOneRead,
		TestCloseInFound,
		TestCloseInCollect,
		TestAbortResets,
		TestHeldBackAtEOF,
		TestSplitAtEOF,
		TestSplitFails,
		TestHandleEOF,
		TestHalfClosedPeerGetsItsAnswer,
		TestErrorInFoundGoesOn,
		TestErrorInCollectIsNotRedelivered,
		TestErrorClosesByDefault,
		TestPanicInHandleError,
		TestBackPressure,
		TestLevels,
		TestHighMarkOfOtherOutput,
		TestOverflowCloses,
		TestProducerOrderAndLaziness,
		TestProducerWaits,
		TestProducerFails,
		TestProducerIsClosedWithItsChannel,
		TestFlushBudget,
		TestInputSurvivesBrokenPipe,
		TestCloseWrite,
		TestFirstOctetChoosesTheProtocol,
		TestAskFirst,
		TestUpgradeWithATap,
		TestUpgradeWithAThrottle,
		TestUpgradeStack,
		TestKeptSliceShowsPoison,
		TestLoopCalledFromAHandler,
		TestShutdownFinishesTheToken,
		TestShutdownGraceEnds,
		TestIdleTimeout,
		TestWriteTimeout,
		TestContextEndsWithTheConnection,
		TestSetHandlerErrors,
		TestBufferLimit,
		TestLines,
		TestChangesBetweenLines,
		TestOf,
		TestTalkReadsTopToBottom,
		TestTalkSleepAndAwait,
		TestTalkPendingCallEnds,
		TestTalkTooLong,
		TestTalkBackPressure,
		TestTalkPanics,
		TestTalkThatNeverEnds,
		TestTalkThenHandler,
		TestHandlerThenTalk,
		TestTalkShutdownWhileItWrites,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndexByte(name, '.')+1:], test)
	}
}
