from phone import Phone


def test_a_caller_who_wants_a_refund_gets_a_person(voisnap_mock):
    voisnap_mock.load("agents.yaml")  # beside this file, or in a folder above it
    with voisnap_mock.expect_call("agt_support") as call:
        phone = Phone(voisnap_mock.base_url, voisnap_mock.token(), "agt_support")
        call.wait_for("TranscriptionOf", text="How can I help?")  # the agent has said it to its end
        phone.play(voisnap_mock.say("I want a refund"))
        call.wait_for("TranscriptionOf", text="order number")
        phone.press("0")
        call.wait_for("SessionEnded")
    assert call.transcript == [
        ("agent", "Hi, this is Acme. How can I help?"),
        ("caller", "I want a refund"),
        ("agent", "Sure. What is the order number?"),
    ]
    call.assert_golden("golden/refund.txt")  # pytest --voisnap-update writes it


def test_an_agent_that_fails_once_is_asked_again(voisnap_mock):
    voisnap_mock.load("agents.yaml")
    voisnap_mock.fault("llm", error="LLM_PROVIDER_ERROR", times=1)
    with voisnap_mock.expect_call("agt_support") as call:
        phone = Phone(voisnap_mock.base_url, voisnap_mock.token(), "agt_support")
        call.wait_for("TranscriptionOf")
        phone.play(voisnap_mock.say("I want a refund"))
        call.wait_for("Error", text="LLM_PROVIDER_ERROR")
        phone.play(voisnap_mock.say("I want a refund"))
        call.wait_for("TranscriptionOf", text="order number")
        phone.hang_up()
    assert phone.errors == ["LLM_PROVIDER_ERROR"]
    assert phone.ended == "user_ended"
