# frozen_string_literal: true

module Kino
  # A child of fork has copies of its parent's servers: it gives them up at once, so that no
  # connection of theirs is held open by it.
  module Fork
    # @private
    def _fork
      pid = super
      Native.forget_servers if pid.zero?
      pid
    end
  end

  Process.singleton_class.prepend(Fork)
end
