# frozen_string_literal: true

module Soak
  # What became of the requests. One thread sends both the requests and the TERM, so a request was
  # sent either before or after it.
  class Tally
    # The whole answer came, and it was the right one.
    attr_accessor :answered
    # The answer had another status or body than the first time.
    attr_accessor :wrong
    # Sent before TERM; the connection ended without a byte of answer.
    attr_accessor :lost
    # The connection ended within the answer, whenever the request was sent.
    attr_accessor :cut
    # Sent after TERM; the connection ended without a byte of answer, or a 503 came. Allowed: a
    # server that drains may close a connection just when the next request travels.
    attr_accessor :refused

    def initialize
      @answered = @wrong = @lost = @cut = @refused = 0
    end
  end
end
